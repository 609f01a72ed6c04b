"""The contract's messages and services, generated from the .proto files. Not edited by hand."""
