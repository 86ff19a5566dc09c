"""Pages to look things up in: all formulas, and all words. Their tables are data; docs/ holds what they print."""
