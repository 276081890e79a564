"""The commands, thin: options in the signature, heavy imports inside, one call into the library."""
