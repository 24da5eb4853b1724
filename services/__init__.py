"""The three services. None of them imports another: they meet in the contracts under protos/."""
