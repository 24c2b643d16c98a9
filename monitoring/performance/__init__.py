"""Matured performance, money, fairness, capacity, maturity of labels."""
