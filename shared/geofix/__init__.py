"""geofix: find out where on Earth an image was taken, and how sure that is."""

__version__ = "0.1.0"
