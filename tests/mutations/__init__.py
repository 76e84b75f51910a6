"""Small wrongs that the tests have to see, and the command that tries whether they do."""
