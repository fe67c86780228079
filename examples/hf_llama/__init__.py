"""A Hugging Face model as it is: a Llama of `transformers` on text that `datasets` loads."""
