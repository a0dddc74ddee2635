"""Datasets, metrics, rate-distortion sweeps, BD-rate, plots and reports."""
