"""What is measured on a target model and its reconstructions."""
