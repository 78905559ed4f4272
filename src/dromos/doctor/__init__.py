"""Examines a connection step by step, with the parts that a bridge would use, and says why not."""
