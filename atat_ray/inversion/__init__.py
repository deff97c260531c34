"""Model inversion attacks: reconstruct the people that a target model was trained on."""
