"""The embedded family: small trained Llamas that stand in for the four 7B models."""
