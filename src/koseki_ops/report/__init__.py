"""What the pages of all rooms share: the hosts as a picture, one look."""
