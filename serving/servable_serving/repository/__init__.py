"""The model repository: folders, models.config, history, remote stores. No TensorFlow."""
