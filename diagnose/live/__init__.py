"""The live entrance: profile(), measure(), scripts run unchanged."""
