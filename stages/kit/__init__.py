"""Tools that two wings or more use: pictures, masks, boxes, landmarks, child processes, weight files."""
