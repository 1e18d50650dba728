"""The command line: one file per command, each of which calls the library. Imported by nobody; imports nothing heavy at the top."""
