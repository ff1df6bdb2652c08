"""The sub-commands of serving; nothing here imports TensorFlow."""
