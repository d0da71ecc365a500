"""What each municipality pays of what they share (K-16).

`model` is the agreement as a file says it, `shares` the arithmetic, `cli` the command. Money is a
whole number of yen, and whatever is divided is an exact fraction: nothing here is a float.
"""
