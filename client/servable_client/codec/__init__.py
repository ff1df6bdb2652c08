"""Encoding of requests and decoding of responses, for gRPC and REST."""
