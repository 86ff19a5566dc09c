"""The exercises of every lesson: stubs, hidden solutions, and checks against independent facts."""
