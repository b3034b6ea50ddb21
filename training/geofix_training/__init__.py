"""From images to a bundle: the only part of geofix that needs torch."""
