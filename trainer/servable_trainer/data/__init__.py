"""Datasets: Fashion-MNIST and folders of images."""
