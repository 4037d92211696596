"""What everything is drawn with: lines of (text, token), cells, charts, amounts. Pure."""
