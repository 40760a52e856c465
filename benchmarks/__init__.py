"""Figures: what is measured, and how to measure it again."""
