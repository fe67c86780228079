"""The fitting methods and the registry that lists them."""
