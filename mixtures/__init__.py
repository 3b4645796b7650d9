"""What goes into the mix: buckets, swarm, regression, solver, exactly so many tokens.

For others to use: `regression` (`fit`), `solver` (`solve`, `intervals`), `runs` (`Runs`, `read_runs`), `design`, `upsample`,
`tasks` (`study`), `condition` (earlier mixes as one domain), `ablate` (`compare`), `config` (`MixConfig`, `parse_budget`),
`stage` (`STAGE`), `explain` (what the mix did to each bucket), `tokenizer` (`DocumentTokenizer`, `train_tokenizer`).
"""
