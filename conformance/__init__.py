"""Every dialect beside the real framework: `make conformance`."""
