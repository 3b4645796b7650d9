"""What the learned extractor is trained and measured on, and how; nothing here is needed to extract."""
