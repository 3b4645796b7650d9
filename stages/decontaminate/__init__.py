"""Pages that hold questions of evaluation sets: found by word n-grams, and dropped, cut or marked.

`config` what a recipe may say; `steps` the step that builds the index of the sets' n-grams; `sets` and `olmo` read them;
`index` the file that tasks map into memory; `matching` what stands in texts; `decide` what becomes of the pages.
"""
