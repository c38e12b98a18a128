"""What a person sees of a run: progress while it goes, tables when it is planned or done."""
