"""What a person looks at: `curate.report.build.build_report` writes the HTML report of a workspace."""
