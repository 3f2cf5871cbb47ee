"""Training experiments of the papers around the Fréchet distance, measured with fidfast.

``python -m benchmarks.gans list`` shows them; README.md in this folder shows the results.
"""
