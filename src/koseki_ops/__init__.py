"""Put the engines of the shared family-register platform in order."""
