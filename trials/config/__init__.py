"""What a protocol or sweep file may say, and how it is read."""
