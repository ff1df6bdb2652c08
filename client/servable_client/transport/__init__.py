"""The I/O: gRPC over libcurl or grpcio, REST over httpcore."""
