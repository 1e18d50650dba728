"""Worlds whose true reward is a program: the ground truth behind every claim this project makes about learned rewards."""
