"""Generated from proto/geofix/v1 by `make protos`; never edited by hand."""
