"""TensorFlow Serving's messages on the wire, without TensorFlow; private to Servable."""
