"""The bundled sentence encoder."""
