"""The OpenAPI document of REST: what is said of an operation, and the document that is made of all routes."""
