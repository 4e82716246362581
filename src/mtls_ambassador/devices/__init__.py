"""What operators ask and tell the edge about devices: answers, explanations, manifests, and the way to the edge."""
