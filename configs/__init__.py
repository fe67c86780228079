"""The YAML files of flops-fit, composed by `flops_fit.config`."""
