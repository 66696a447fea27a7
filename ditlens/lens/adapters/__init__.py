"""One small data table per architecture: the only place that knows diffusers' attribute names and tuple orders."""
