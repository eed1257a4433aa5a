"""What every layer may use: errors, values, text and time rules, settings, locks. Standard library only."""
