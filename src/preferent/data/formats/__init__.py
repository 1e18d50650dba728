"""One file per public shape of a preference row; `detect` chooses by the keys of each row."""
