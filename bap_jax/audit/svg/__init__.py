"""Figures of a report as inline SVG, drawn without any library: one module a figure.

A figure that is scaled as a whole shows unreadable text on a telephone. So horizontal positions are
percentages of the width that there is, vertical ones are pixels, and text keeps its size; names of
groups are HTML beside the drawing, where they can wrap or end in "…".

    marks       lines, bars, dots and text
    axis        from a number to a position; round numbers along an axis
    figure      what a figure consists of: drawing or rows, words for it, the table behind it
    forest      estimates with limits, one row a group
    histogram   how often values occur, with some of them marked
    flips       samples harmed against samples helped
    slope       from one accuracy to another
    curves      several series over steps
    bars        one bar a row
"""
