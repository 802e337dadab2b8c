"""The base class of what the stand-in builds from configs."""
