package main

import (
	"fmt"
	"image/color"
	"os"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours that people who see few colours can tell apart.
var (
	blue   = color.RGBA{0, 114, 178, 255}
	orange = color.RGBA{213, 94, 0, 255}
	grey   = color.RGBA{130, 130, 130, 255}
)

// plotRun draws a run as SVG: rates over time and, below, how long the queue was.
func plotRun(name string, t *trace) (err error) {
	s := t.spec
	rates := plot.New()
	rates.Title.Text = fmt.Sprintf("%s, %s on the %s, %s in the background", s.link.name, s.load, s.from, s.rival)
	rates.Y.Label.Text = "Mbit/s"
	rates.Legend.Top, rates.Legend.Left = true, true
	rates.Y.Min, rates.Y.Max = 0, float64(s.link.rate)/mbit*1.25
	waits := plot.New()
	waits.X.Label.Text, waits.Y.Label.Text = "seconds", "queue, ms"
	if len(s.link.steps) > 0 {
		waits.Y.Label.Text += fmt.Sprintf(" at %d Mbit/s", s.link.rate/mbit)
	}
	wait := func(bytes int) float64 { return float64(bytes) * 8000 / float64(s.link.rate) }
	waits.Y.Min, waits.Y.Max = 0, max(10, wait(slices.Max(t.data().waiting))*1.1)

	end := t.stopped
	for _, p := range []*plot.Plot{rates, waits} {
		p.Add(plotter.NewGrid())
		for _, at := range []time.Duration{t.up.first[foreground], t.data().last[foreground]} {
			mark, err := plotter.NewLine(plotter.XYs{{X: (at - t.started).Seconds(), Y: 0}, {X: (at - t.started).Seconds(), Y: p.Y.Max}})
			if err != nil {
				return err
			}
			mark.Color, mark.Dashes = grey, []vg.Length{vg.Points(3), vg.Points(3)}
			p.Add(mark)
		}
	}
	for _, c := range []struct {
		name  string
		bytes []int64
		color color.Color
	}{{"foreground", t.data().payload[foreground], orange}, {"background", t.data().payload[background], blue}} {
		var points plotter.XYs
		for at := t.started; at < end; at += 2 * bin {
			points = append(points, plotter.XY{X: (at - t.started).Seconds(), Y: rate(c.bytes, at-smoothing/2, at+smoothing/2) / mbit})
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return err
		}
		line.Color, line.Width = c.color, vg.Points(1.2)
		rates.Add(line)
		rates.Legend.Add(c.name, line)
	}
	var points plotter.XYs
	for i, n := range t.data().waiting {
		if at := time.Duration(i) * bin; at >= t.started && at < end {
			points = append(points, plotter.XY{X: (at - t.started).Seconds(), Y: wait(n)})
		}
	}
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.Color = grey
	waits.Add(line)

	for _, p := range []*plot.Plot{rates, waits} {
		p.X.Min, p.X.Max = 0, (end - t.started).Seconds()
	}

	const width, height = 20 * vg.Centimeter, 11 * vg.Centimeter
	canvas := vgsvg.New(width, height)
	tiles := plot.Align([][]*plot.Plot{{rates}, {waits}}, draw.Tiles{Rows: 2, Cols: 1, PadY: vg.Millimeter, PadRight: 3 * vg.Millimeter}, draw.New(canvas))
	rates.Draw(tiles[0][0])
	waits.Draw(tiles[1][0])
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
