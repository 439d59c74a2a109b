"""Adapters from the published topology cases to calls of the product's placement functions.

They translate and judge; they decide nothing. Read ``kueue.py`` first.
"""
