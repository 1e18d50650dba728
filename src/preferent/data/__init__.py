"""Read and write, the data gate with its ledger, splits by prompt. Never imports torch."""
