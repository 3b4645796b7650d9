"""What goes into the mix: buckets, weights, exactly so many tokens.

For others to use: `config` (`MixConfig`, `parse_budget`), `stage` (`STAGE`), `explain` (what the mix did to each bucket),
`allocate` (targets and draws from weights, on arrays), `tokenizer` (`DocumentTokenizer`, `train_tokenizer`).
"""
