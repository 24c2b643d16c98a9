"""What a use-case file may say."""
