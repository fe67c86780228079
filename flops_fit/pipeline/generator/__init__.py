"""Generated prose: a seeded grammar of English and Spanish that needs no text from elsewhere."""

from flops_fit.pipeline.generator.documents import generate_documents

__all__ = ["generate_documents"]
