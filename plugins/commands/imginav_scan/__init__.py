"""`imginav scan`: from a folder of images to a list, a palette and a site file."""
